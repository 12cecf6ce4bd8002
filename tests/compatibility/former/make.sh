#!/bin/sh
# Makes all but the texts, the pictures and the two hand-written configs, in a copy of this folder, by the program of commit 5ce4f87.
set -e
mkdir expected
M="python -m megabyte_mm"
$M fit --config text.yaml
cp megabyte/last.ckpt megabyte.ckpt
cp megabyte/logs/version_0/config.yaml config.yaml
$M fit --config text.yaml --trainer.default_root_dir transformer --trainer.strategy fsdp2_sharded \
    --model.net TransformerConfig --model.net.stack '{dim: 8, layers: 1, heads: 2}' --model.net.byte_scale 5
cp -r transformer/last.ckpt transformer.ckpt
$M fit --config text.yaml --trainer.default_root_dir perceiver_ar \
    --model.net PerceiverARConfig --model.net.stack '{dim: 8, layers: 1, heads: 2}' --model.net.latents 16
cp perceiver_ar/last.ckpt perceiver_ar.ckpt
$M fit --config mixed.yaml
$M export mixed/last.ckpt export --samples 0
$M prepare --config text.yaml --out prepared texts
$M compress export picture.png texts/train/verse/river.txt --out files.mbz
for name in megabyte.ckpt transformer.ckpt perceiver_ar.ckpt export; do
    $M score $name texts/val --json expected/$name.json
    condition=verse; [ $name = export ] && condition=text
    $M generate $name --out expected/$name --condition $condition --length 40 --num_samples 1 --seed 1 --backend eager
done
$M fit --config config.yaml --ckpt_path megabyte.ckpt --trainer.max_steps 6
cp megabyte/logs/version_1/metrics.csv expected/megabyte.ckpt.csv
$M fit --config transformer/logs/version_0/config.yaml --ckpt_path transformer.ckpt --trainer.max_steps 6
cp transformer/logs/version_1/metrics.csv expected/transformer.ckpt.csv
