"""The words and the rules of Regie: pure, without input or output, clock or randomness. Every room builds on it."""
