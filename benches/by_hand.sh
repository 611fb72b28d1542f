#!/bin/sh
# An update as people do it by hand, without a pause between the lines. It takes the site down from the first `stop` to
# the last `start`. What it works on is named by SITE_… variables; pip and Django read their own (PIP_…, DJANGO_…).
set -eu

manage() { "$SITE_VIRTUALENV/bin/python" manage.py "$@"; }
supervisor() { "$SITE_SUPERVISORCTL" -c "$SITE_SUPERVISOR_CONFIG" "$@"; }
page() {
    case $SITE_ADDRESS in
        unix:*) curl -sSf -o /dev/null --unix-socket "${SITE_ADDRESS#unix:}" "$SITE_URL$1" ;;
        *) curl -sSf -o /dev/null --connect-to "::$SITE_ADDRESS" "$SITE_URL$1" ;;
    esac
}

cd "$SITE_CHECKOUT/project"
export DJANGO_SETTINGS_MODULE="${DJANGO_SETTINGS_MODULE:-config.settings.production}"

# A person leaves twenty minutes between the announcement and what follows.
echo y | manage maintenanceon

[ -z "${SITE_MAINTENANCE_PAGE:-}" ] || echo '<h1>Maintenance</h1>' >"$SITE_MAINTENANCE_PAGE"
# shellcheck disable=SC2086 # several names
supervisor stop $SITE_SERVICES

git fetch -q origin
git checkout -q "$SITE_BRANCH"
git rebase -q "origin/$SITE_BRANCH"
"$SITE_VIRTUALENV/bin/python" -m pip install -q -U -r "../$SITE_REQUIREMENTS"
manage collectstatic --noinput --clear -v 0
manage migrate --noinput -v 0

# shellcheck disable=SC2086
supervisor start $SITE_SERVICES
for path in "" about/; do page "$path"; done
[ -z "${SITE_MAINTENANCE_PAGE:-}" ] || rm -f "$SITE_MAINTENANCE_PAGE"
manage maintenanceoff
