"""Text scores of any two files: `python -m peft_ablation.scoring HYPOTHESES REFERENCES`."""

import sys

from peft_ablation.scoring.files import main

sys.exit(main())
