"""What a trained arm predicts, and how good that is."""
