"""The code behind the commands of scripts/."""
