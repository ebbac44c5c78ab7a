"""Files of the cache on its disk: written so that a killed process leaves nothing half done."""
