"""The StyleGAN2 generator: training, evaluation, release."""
