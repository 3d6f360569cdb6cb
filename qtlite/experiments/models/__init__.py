"""Models of a run: targets, the controls, the comparison model QCML, and which one a config has."""
