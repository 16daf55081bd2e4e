"""The judge: measures of outputs against truth, statistics, and the verdict of each claim."""
