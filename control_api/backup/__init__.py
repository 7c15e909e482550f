"""Backup and restore of one installation, the one while it works, the other where there is none.

manifest       what a backup's folder holds
copying        files, copied whole and compared
take           from an installation to a folder
restore        from a folder to an installation

A folder holds one backup: the next one into it copies only what is new, and then removes what is
not needed any more. Files are copied and never linked: a bit that flips on a disk is in all names
of a file.
"""
