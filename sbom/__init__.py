"""The list of what Regie is made of beside its own code, with licences: a CycloneDX software bill of materials."""
