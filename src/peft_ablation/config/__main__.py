"""Write the JSON schemas of site, study and suite: `python -m peft_ablation.config [FOLDER]`."""

import sys

from peft_ablation.config.schemas import write_schemas

for schema in write_schemas(sys.argv[1] if len(sys.argv) > 1 else "workflow/schemas"):
    print(schema)
