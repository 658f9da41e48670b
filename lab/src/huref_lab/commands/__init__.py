"""`huref lab`, `huref train`, and what measures encoders and generators."""
