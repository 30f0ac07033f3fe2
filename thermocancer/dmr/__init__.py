"""The DMR-IR site: file names, pages, session, download."""
