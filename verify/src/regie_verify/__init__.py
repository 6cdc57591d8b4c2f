"""Checks a bundle of Regie's audit log without anything of Regie: signatures, roots, gaps, who approved what."""
