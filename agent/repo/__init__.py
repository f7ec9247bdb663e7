"""The one seam to restic."""
