"""The DMR-IR site, mirrored into ``raw/``. A fetch reads as five steps:

1. log in: ``credentials`` holds the account, ``session`` uses it; every request passes ``transport``
2. walk the pages: ``walk`` goes through the lists and the patients, ``pages`` and ``clinical`` read the HTML
3. plan: ``address`` says which links may be followed, ``plan`` decides what each of them leads to, touching nothing
4. ``download`` each file aside, verify it, rename it
5. write the catalog: ``mirror`` keeps it true through kills, and repairs it
"""
