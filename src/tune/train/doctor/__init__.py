"""Checks of a run before its hours are spent. To add one: a function from a case to findings, and its line in
`checks.CHECKS`."""
