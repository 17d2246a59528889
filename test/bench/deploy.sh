#!/usr/bin/env bash
# test/bench/deploy.sh up [IMAGE]|down: what pwdeploy replaces, as a careful user would write it: the same charts at the
# same versions with the same values, the same manifests, every step with its own wait, nothing slower than it has to
# be, and nothing that a second run would do again for nothing. It is what make bench measures pwdeploy against.
# PARALLEL=1 installs both charts at a time.
set -euo pipefail
cd "$(dirname "$0")/../.."

image=${2:-pw/crudservice:latest}
bounded=(--wait --timeout 5m)

# Not create --dry-run | apply, which would take the labels off again that the manifests give to pw-crud.
namespace() {
    kubectl get namespace "$1" >/dev/null 2>&1 || kubectl create namespace "$1"
}

# password NAMESPACE NAME: the one that a Secret holds; nothing if there is no such Secret.
password() {
    kubectl --namespace "$1" get secret "$2" --ignore-not-found --output 'jsonpath={.data.redis-password}' | base64 --decode
}

# secret NAMESPACE NAME: stores the password on stdin, where no list of processes shows it.
secret() {
    kubectl --namespace "$1" create secret generic "$2" --from-file=redis-password=/dev/stdin
}

# The password is made once. Pods mount Secrets of their own namespace only: it is there twice.
passwords() {
    local value
    value=$(password redis pwdeploy-redis)
    if [ -z "$value" ]; then
        value=$(openssl rand -hex 24)
        printf %s "$value" | secret redis pwdeploy-redis
    fi
    if [ -z "$(password pw-crud pw-crud-redis)" ]; then
        printf %s "$value" | secret pw-crud pw-crud-redis
    fi
}

redis() {
    helm upgrade --install redis oci://registry-1.docker.io/bitnamicharts/redis --version 23.1.1 --namespace redis \
        --values internal/helm/values/redis.yaml --values internal/helm/values/redis-local.yaml \
        --set auth.existingSecret=pwdeploy-redis,auth.existingSecretPasswordKey=redis-password "${bounded[@]}"
}

ingress() {
    helm upgrade --install ingress-nginx ingress-nginx --repo https://kubernetes.github.io/ingress-nginx \
        --version 4.15.1 --namespace ingress-nginx --values internal/helm/values/ingress-nginx.yaml \
        --values internal/helm/values/ingress-nginx-local.yaml "${bounded[@]}"
}

charts() {
    if [ -z "${PARALLEL:-}" ]; then
        redis
        ingress
        return
    fi
    redis &
    local first=$!
    ingress
    wait "$first"
}

# Another image than the manifests' own: an overlay over the overlay, as kustomize edit set image writes it. Beside the
# manifests, because kustomize takes no absolute path.
overlay() {
    if [ "$image" = pw/crudservice:latest ]; then
        echo manifests/overlays/local
        return
    fi
    mkdir -p bin/bench/overlay
    printf 'resources: [../../../manifests/overlays/local]\nimages: [{name: pw/crudservice, newName: %s, newTag: %s}]\n' \
        "${image%:*}" "${image##*:}" >bin/bench/overlay/kustomization.yaml
    echo bin/bench/overlay
}

# With one replica, helm --wait returns before the controller is ready, and until its admission webhook answers the API
# server refuses the Ingress: everybody's script has such a loop, or fails now and then (ingress-nginx#5401).
app() {
    local folder try
    folder=$(overlay)
    for try in {1..60}; do
        if kubectl apply --kustomize "$folder"; then
            break
        fi
        [ "$try" -lt 60 ] || return 1
        sleep 1
    done
    kubectl --namespace pw-crud rollout status deployment/pw-crud --timeout 5m
}

up() {
    local name
    for name in redis ingress-nginx pw-crud; do
        namespace "$name"
    done
    passwords
    charts
    app
}

down() {
    kubectl delete --kustomize manifests/overlays/local --ignore-not-found --wait
    helm uninstall ingress-nginx --namespace ingress-nginx --ignore-not-found "${bounded[@]}"
    helm uninstall redis --namespace redis --ignore-not-found "${bounded[@]}"
    kubectl delete namespace redis ingress-nginx pw-crud --ignore-not-found --wait
}

case ${1:-} in
up | down) "$1" ;;
*)
    echo "usage: test/bench/deploy.sh up [IMAGE]|down" >&2
    exit 2
    ;;
esac
