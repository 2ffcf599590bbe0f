#!/bin/sh
# Writes parlance.yaml anew from the chart; HELM names another helm.
set -eu
cd "$(dirname "$0")/../.."
{
    echo '# The chart rendered for those who do without Helm: three nodes on a Redis at redis:6379. Written by render.sh.'
    ${HELM:-helm} template parlance helm/parlance --namespace parlance --values deploy/kubernetes/values.yaml |
        grep -v -e '^# Source:' -e 'helm.sh/chart:' -e 'app.kubernetes.io/managed-by: Helm'
} >deploy/kubernetes/parlance.yaml
