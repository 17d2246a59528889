#!/bin/sh
# Renews the browser bundles in assets/ from the npm packages they come from.
# Needs npm, gzip and sed. Afterwards run `go test ./service/...` and look at
# /docs and /redoc once in a browser with the network off.
set -eu

SWAGGER_UI=5.35.0
REDOC=2.5.4

cd "$(dirname "$0")"
assets="$PWD/assets"
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT

# unpack PACKAGE VERSION: npm itself checks the archive against the registry's integrity value.
unpack() {
	(cd "$tmp" && npm pack --silent "$1@$2" >/dev/null && mkdir "$1" && tar -xzf "$1-$2.tgz" -C "$1" --strip-components=1)
}

# keep FILE: compressed reproducibly, so that an unchanged version is an unchanged file.
keep() {
	gzip -9 -n -c "$1" >"$assets/$(basename "$1").gz"
}

unpack swagger-ui-dist "$SWAGGER_UI"
unpack redoc "$REDOC"

# Two changes, both so that a page never asks for anything beyond this server:
# no source map is announced, and ReDoc's logo does not come from its CDN.
sed -i '/^\/\*# sourceMappingURL=.*\*\/$/d' "$tmp/swagger-ui-dist/swagger-ui.css"
sed -i -e '/^\/\/# sourceMappingURL=/d' \
	-e 's|https://cdn\.redoc\.ly/redoc/logo-mini\.svg|data:,|' "$tmp/redoc/bundles/redoc.standalone.js"

keep "$tmp/swagger-ui-dist/swagger-ui-bundle.js"
keep "$tmp/swagger-ui-dist/swagger-ui-bundle.js.LICENSE.txt"
keep "$tmp/swagger-ui-dist/swagger-ui.css"
keep "$tmp/redoc/bundles/redoc.standalone.js"
keep "$tmp/redoc/bundles/redoc.standalone.js.LICENSE.txt"

# The licences of the packages themselves, readable in the repository.
cat "$tmp/swagger-ui-dist/NOTICE" "$tmp/swagger-ui-dist/LICENSE" >"$assets/swagger-ui.LICENSE.txt"
cp "$tmp/redoc/LICENSE" "$assets/redoc.LICENSE.txt"
printf 'swagger-ui-dist %s\nredoc %s\n' "$SWAGGER_UI" "$REDOC" >"$assets/VERSIONS"
