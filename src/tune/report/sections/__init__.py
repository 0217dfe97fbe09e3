"""What a page says, section by section: of a run (`run`), of a sweep (`sweep`), of several side by side (`beside`).
A section is a function from what the files say to blocks; one that has nothing to say gives none."""
