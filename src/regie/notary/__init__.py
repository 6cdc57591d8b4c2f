"""The notary: takes leaves into their logs, signs checkpoints, asks witnesses, and writes bundles for auditors."""
