"""systemd's interfaces: units, notification, journal, login manager."""
