"""A physical phantom: bioheat solver, anatomy, cohort."""
