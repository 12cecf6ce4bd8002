"""Operations of training with kernels of their own on a GPU, written in Triton, each beside its definition in torch.

packed_attention   attention inside many short sequences; its kernels are in packed_attention_triton
feedforward        the second half of a block; its kernels are in feedforward_triton, and feedforward_selection finds
                   out where they are faster
support            whether kernels of Triton run here, and compute what their definition does
"""
