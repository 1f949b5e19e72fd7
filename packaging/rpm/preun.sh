# A removal stops the service; an upgrade lets it run until the new binary is there. The state stays.
if [ "$1" = 0 ] && [ -d /run/systemd/system ]; then
    systemctl --quiet disable --now logferry.socket logferry.service
fi
