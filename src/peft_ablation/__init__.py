"""Fair, repeatable comparison of full fine-tuning with parameter-efficient fine-tuning."""

__version__ = "0.1.0"
