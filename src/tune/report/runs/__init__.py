"""What stands in an output folder: runs, and sweeps with their trials. Read from run.json alone, which is quick."""
