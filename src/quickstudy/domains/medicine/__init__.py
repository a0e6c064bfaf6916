"""Floor 5: medicine: a new hospital, or a new patient, is a task. Nothing here is a medical device."""
