#!/usr/bin/env bash
# What the two Spring Boot clients differ in is a table there.
exec "$(dirname "$0")/../boot_client.sh" "$@"
