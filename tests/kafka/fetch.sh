#!/usr/bin/env bash
# Gets Apache Kafka's jars into target/kafka/libs, by Maven, with Maven's own repository under target/ too. Does nothing when they are
# there: the stamp holds the checksum of the pom they were made from. Needs a network only the first time.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
kafka=$(cd "$here/../.." && pwd)/target/kafka
stamp=$kafka/stamp
wanted=$(sha256sum <"$here/pom.xml")

if [[ -f $stamp && $(<"$stamp") == "$wanted" ]]; then
    exit 0
fi
if ! command -v mvn >/dev/null; then
    echo "fetch.sh: Maven is needed to fetch Apache Kafka's jars: run make test, or install the package maven" >&2
    exit 1
fi

# One at a time: two test runs in the same checkout must not write the same folder.
mkdir -p "$kafka"
exec 9>"$kafka/lock"
flock 9
if [[ -f $stamp && $(<"$stamp") == "$wanted" ]]; then
    exit 0
fi

rm -rf "$kafka/libs" "$stamp"
for attempt in 1 2 3 4; do
    echo "fetching Apache Kafka's jars into ${kafka#"$PWD"/}/libs (attempt $attempt of 4)"
    if mvn --batch-mode --quiet --file "$here/pom.xml" -Dmaven.repo.local="$kafka/maven" \
        dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory="$kafka/libs"; then
        echo "$wanted" >"$stamp"
        exit 0
    fi
    # What a broken-off download left behind is asked for anew, not remembered as missing.
    find "$kafka/maven" \( -name '*.lastUpdated' -o -name '*.part*' \) -delete 2>/dev/null || true
    sleep $((attempt * attempt * 3))
done
echo "fetch.sh: Maven could not get Apache Kafka's jars, see above; is there a network, and does Maven's settings.xml know its proxy?" >&2
exit 1
