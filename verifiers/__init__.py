"""Was the answer right? Pure Python, without torch or ray."""
