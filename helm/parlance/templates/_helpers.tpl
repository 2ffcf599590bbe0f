{{- define "parlance.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 50 | trimSuffix "-" -}}
{{- end }}

{{- define "parlance.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- $name := include "parlance.name" . -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end }}

{{- /* What every pod of the release has, the gateway's, the test's and the bench's: the NetworkPolicy lets them in. */}}
{{- define "parlance.releaseLabels" -}}
app.kubernetes.io/name: {{ include "parlance.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- /* What only the gateway's pods have. */}}
{{- define "parlance.selectorLabels" -}}
{{ include "parlance.releaseLabels" . }}
app.kubernetes.io/component: gateway
{{- end }}

{{- /* Labels of pods. Nothing that changes with the chart alone: it would replace every pod. (dict "root" $ "component" …) */}}
{{- define "parlance.podLabels" -}}
{{ include "parlance.releaseLabels" .root }}
app.kubernetes.io/component: {{ .component }}
app.kubernetes.io/part-of: parlance
{{- with .root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "parlance.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/part-of: parlance
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- /*
The metadata of an object of the gateway: (dict "root" $ "name" … "labels" … "annotations" … "namespace" … "component" …),
all but the first two optional.
*/}}
{{- define "parlance.metadata" -}}
{{- $root := .root -}}
name: {{ .name }}
namespace: {{ default $root.Release.Namespace .namespace }}
labels:
  {{- include "parlance.labels" $root | nindent 2 }}
  {{- include "parlance.releaseLabels" $root | nindent 2 }}
  app.kubernetes.io/component: {{ default "gateway" .component }}
  {{- with .labels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with merge (dict) (default (dict) .annotations) $root.Values.commonAnnotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "parlance.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "parlance.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end }}

{{- /* (dict "root" $ "image" .Values.image) */}}
{{- define "parlance.image" -}}
{{- if .image.digest -}}
{{- printf "%s@%s" .image.repository .image.digest -}}
{{- else -}}
{{- printf "%s:%s" .image.repository (default .root.Chart.AppVersion .image.tag) -}}
{{- end -}}
{{- end }}

{{- /* Whether the chart makes the Secret of keys. */}}
{{- define "parlance.makesSecret" -}}
{{- if or .Values.auth.jwtSecrets .Values.auth.apiKeys .Values.auth.sessionSecret .Values.auth.authoriserSecret .Values.auth.webhooksSecret .Values.auth.archiveUrl .Values.auth.outboxUrl .Values.auth.outboxRedisUrl -}}
{{- if .Values.auth.existingSecret -}}
{{- fail "auth.existingSecret is set: auth.jwtSecrets, auth.apiKeys, auth.sessionSecret, auth.authoriserSecret, auth.webhooksSecret, auth.archiveUrl, auth.outboxUrl and auth.outboxRedisUrl belong into that Secret" -}}
{{- end -}}
true
{{- end -}}
{{- end }}

{{- define "parlance.secretName" -}}
{{- default (printf "%s-auth" (include "parlance.fullname" .)) .Values.auth.existingSecret -}}
{{- end }}

{{- /* Which secrets of the gateway lie under which key of the Secret, by option. */}}
{{- define "parlance.authKeys" -}}
{{- $made := include "parlance.makesSecret" . -}}
{{- $keys := dict -}}
{{- with .Values.auth -}}
{{- if and .jwtSecretsKey (or (not $made) .jwtSecrets) }}{{ $_ := set $keys "secrets" .jwtSecretsKey }}{{ end -}}
{{- if and .apiKeysKey (or (not $made) .apiKeys) }}{{ $_ := set $keys "api_keys" .apiKeysKey }}{{ end -}}
{{- if $made -}}
{{- if .sessionSecret }}{{ $_ := set $keys "session_secret" "session-secret" }}{{ end -}}
{{- if .authoriserSecret }}{{ $_ := set $keys "authoriser" "authoriser-secret" }}{{ end -}}
{{- if .webhooksSecret }}{{ $_ := set $keys "webhooks" "webhooks-secret" }}{{ end -}}
{{- if .archiveUrl }}{{ $_ := set $keys "archive" "archive-url" }}{{ end -}}
{{- if .outboxUrl }}{{ $_ := set $keys "outbox" "outbox-url" }}{{ end -}}
{{- if .outboxRedisUrl }}{{ $_ := set $keys "outbox_redis" "outbox-redis-url" }}{{ end -}}
{{- else -}}
{{- with .sessionSecretKey }}{{ $_ := set $keys "session_secret" . }}{{ end -}}
{{- with .authoriserSecretKey }}{{ $_ := set $keys "authoriser" . }}{{ end -}}
{{- with .webhooksSecretKey }}{{ $_ := set $keys "webhooks" . }}{{ end -}}
{{- with .archiveUrlKey }}{{ $_ := set $keys "archive" . }}{{ end -}}
{{- with .outboxUrlKey }}{{ $_ := set $keys "outbox" . }}{{ end -}}
{{- with .outboxRedisUrlKey }}{{ $_ := set $keys "outbox_redis" . }}{{ end -}}
{{- end -}}
{{- end -}}
{{- toJson $keys -}}
{{- end }}

{{- /* The address of Redis, without logins: these are files. */}}
{{- define "parlance.redisUrl" -}}
{{- with .Values.redis -}}
{{- $kind := get (dict "standalone" "" "sentinel" "-sentinel" "cluster" "-cluster") .mode -}}
{{- if and .username (not .existingSecret) -}}
{{- fail "redis.username needs a password: redis.existingSecret names the Secret that has it" -}}
{{- end -}}
{{- printf "%s%s://%s" (ternary "rediss" "redis" .tls.enabled) $kind (join "," .addresses) -}}
{{- if eq .mode "sentinel" }}/{{ .sentinelName }}{{ end -}}
{{- end -}}
{{- end }}

{{- /* Variables of the gateway: addresses. Secrets are files, which can be rotated. */}}
{{- define "parlance.env" -}}
- name: POD_IP
  valueFrom:
    fieldRef:
      fieldPath: status.podIP
# The rollout that the pod belongs to: pods of an older one take no new connections when one of a newer one has room.
- name: PARLANCE_DRAIN_GENERATION
  valueFrom:
    fieldRef:
      fieldPath: metadata.labels['pod-template-hash']
- name: PARLANCE_ADVERTISE
  value: {{ printf (ternary "[$(POD_IP)]:%v" "$(POD_IP):%v" (eq .Values.ipFamily "IPv6")) .Values.containerPorts.internal | quote }}
{{- if not (and .Values.redis.existingSecret .Values.redis.urlKey) }}
- name: PARLANCE_REDIS_URL
  value: {{ include "parlance.redisUrl" . | quote }}
{{- end }}
{{- end }}

{{- /* Annotations that make an Ingress right for connections that stay: (dict "kind" … "seconds" …). */}}
{{- define "parlance.ingressAnnotations" -}}
{{- if eq .kind "nginx" -}}
nginx.ingress.kubernetes.io/proxy-read-timeout: {{ .seconds | toString | quote }}
nginx.ingress.kubernetes.io/proxy-send-timeout: {{ .seconds | toString | quote }}
nginx.ingress.kubernetes.io/proxy-buffering: "off"
nginx.ingress.kubernetes.io/proxy-request-buffering: "off"
nginx.ingress.kubernetes.io/proxy-body-size: 2m
nginx.ingress.kubernetes.io/proxy-next-upstream: "error timeout http_503"
nginx.ingress.kubernetes.io/load-balance: ewma
{{- else if eq .kind "haproxy" -}}
haproxy.org/load-balance: leastconn
haproxy.org/timeout-tunnel: {{ printf "%vs" .seconds | quote }}
haproxy.org/timeout-server: {{ printf "%vs" .seconds | quote }}
haproxy.org/timeout-client: {{ printf "%vs" .seconds | quote }}
haproxy.org/forwarded-for: "true"
{{- end -}}
{{- end }}
