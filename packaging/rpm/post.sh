systemd-tmpfiles --create logferry.conf
if [ -d /run/systemd/system ]; then
    systemctl daemon-reload
    systemctl try-restart logferry.service
fi
if [ "$1" = 1 ]; then # the first installation
    echo "logferry: fill in Kafka's address in /etc/logferry/config.toml, then: logferry check --connect && systemctl enable --now logferry"
fi
