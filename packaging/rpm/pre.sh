# The group has to be there before the files that belong to it.
echo 'u logferry - "logferry, ships logs to Kafka" /var/lib/logferry /usr/sbin/nologin' | systemd-sysusers --replace=/usr/lib/sysusers.d/logferry.conf -
