"""Models for others: the folder that `export` writes, its model card, and huggingface_hub's way of saving and loading.

folder.py       a model as a folder of weights, config, card and samples, whole or not at all
space.py        the same with the playground, as a Space of the Hugging Face hub
card.py         README.md, as the hub shows it
pretrained.py   HubModel: from_pretrained, save_pretrained and push_to_hub; needs the extra `hub`
"""
