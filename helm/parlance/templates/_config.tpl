{{- /* A value as TOML. Helm's own toToml writes whole numbers as fractions, which are other values in TOML. */}}
{{- define "parlance.toml.value" -}}
{{- if kindIs "string" . -}}
{{ toJson . }}
{{- else if kindIs "bool" . -}}
{{ . }}
{{- else if kindIs "slice" . -}}
{{- $parts := list -}}
{{- range . }}{{ $parts = append $parts (include "parlance.toml.value" .) }}{{ end -}}
[{{ join ", " $parts }}]
{{- else if kindIs "map" . -}}
{{- $parts := list -}}
{{- range $key, $value := . -}}
{{- if not (kindIs "invalid" $value) }}{{ $parts = append $parts (printf "%s = %s" $key (include "parlance.toml.value" $value)) }}{{ end -}}
{{- end -}}
{ {{ join ", " $parts }} }
{{- else -}}
{{ int64 . }}
{{- end -}}
{{- end }}

{{- /* What the chart says: defaults for a pod behind a balancer, then `config`, then what other values decide. */}}
{{- define "parlance.config" -}}
{{- $any := ternary "[::]" "0.0.0.0" (eq .Values.ipFamily "IPv6") -}}
{{- $config := dict "log" (dict "format" "json") "limits" (dict "connections_per_ip" 0) -}}
{{- $config = mergeOverwrite $config (deepCopy .Values.config) -}}
{{- $own := dict
    "listen" (printf "%s:%v" $any .Values.containerPorts.public)
    "internal_listen" (printf "%s:%v" $any .Values.containerPorts.internal)
    "drain" (dict "deadline_ms" (mul .Values.drain.deadlineSeconds 1000)) -}}
{{- $redis := dict -}}
{{- with .Values.redis.tls -}}
{{- if and .enabled .existingSecret -}}
{{- with .caKey }}{{ $_ := set $redis "ca_file" (printf "/etc/parlance/redis/%s" .) }}{{ end -}}
{{- if .certKey -}}
{{- $_ := set $redis "cert_file" (printf "/etc/parlance/redis/%s" .certKey) -}}
{{- $_ := set $redis "key_file" (printf "/etc/parlance/redis/%s" .keyKey) -}}
{{- end -}}
{{- end -}}
{{- if and .enabled .serverName }}{{ $_ := set $redis "server_name" .serverName }}{{ end -}}
{{- end -}}
{{- with .Values.redis -}}
{{- if and .existingSecret .urlKey -}}
{{- $_ := set $own "redis_url_file" (printf "/etc/parlance/redis-auth/%s" .urlKey) -}}
{{- else if .existingSecret -}}
{{- $_ := set $redis "password_file" (printf "/etc/parlance/redis-auth/%s" .passwordKey) -}}
{{- with .username }}{{ $_ := set $redis "username" . }}{{ end -}}
{{- if and .sentinelPasswordKey (eq .mode "sentinel") -}}
{{- $_ := set $redis "sentinel_password_file" (printf "/etc/parlance/redis-auth/%s" .sentinelPasswordKey) -}}
{{- with .sentinelUsername }}{{ $_ := set $redis "sentinel_username" . }}{{ end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- with $redis }}{{ $_ := set $own "redis" . }}{{ end -}}
{{- $auth := dict -}}
{{- $outbox := dict -}}
{{- range $option, $key := include "parlance.authKeys" . | fromJson -}}
{{- $path := printf "/etc/parlance/auth/%s" $key -}}
{{- if eq $option "api_keys" -}}
{{- $_ := set $own "api_keys_file" $path -}}
{{- else if eq $option "authoriser" -}}
{{- $_ := set $own "authoriser" (dict "secret_file" $path) -}}
{{- else if eq $option "webhooks" -}}
{{- $_ := set $own "webhooks" (dict "secret_file" $path) -}}
{{- else if eq $option "archive" -}}
{{- $_ := set $own "archive" (dict "url_file" $path) -}}
{{- else if eq $option "outbox" -}}
{{- $_ := set $outbox "url_file" $path -}}
{{- else if eq $option "outbox_redis" -}}
{{- $_ := set $outbox "redis_url_file" $path -}}
{{- else -}}
{{- $_ := set $auth (printf "%s_file" $option) $path -}}
{{- end -}}
{{- end -}}
{{- with .Values.auth.publicKeys.items -}}
{{- if not $.Values.auth.publicKeys.existingSecret -}}
{{- fail "auth.publicKeys.existingSecret names the Secret with the files of auth.publicKeys.items" -}}
{{- end -}}
{{- $keys := list -}}
{{- range . -}}
{{- $key := dict "path" (printf "/etc/parlance/keys/%s" .file) "algorithm" .algorithm -}}
{{- with .kid }}{{ $_ := set $key "kid" . }}{{ end -}}
{{- $keys = append $keys $key -}}
{{- end -}}
{{- $_ := set $auth "keys" $keys -}}
{{- end -}}
{{- with $auth }}{{ $_ := set $own "auth" . }}{{ end -}}
{{- with $outbox }}{{ $_ := set $own "outbox" . }}{{ end -}}
{{- mergeOverwrite $config $own | toJson -}}
{{- end }}

{{- define "parlance.toml" -}}
{{- $config := include "parlance.config" . | fromJson -}}
{{- range $key, $value := $config -}}
{{- if not (or (kindIs "map" $value) (kindIs "invalid" $value)) }}
{{ $key }} = {{ include "parlance.toml.value" $value }}
{{- end -}}
{{- end -}}
{{- range $key, $value := $config -}}
{{- if and (kindIs "map" $value) $value }}

[{{ $key }}]
{{- range $name, $inner := $value -}}
{{- if not (kindIs "invalid" $inner) }}
{{ $name }} = {{ include "parlance.toml.value" $inner }}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end }}
