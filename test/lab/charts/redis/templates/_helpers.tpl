{{- define "redis.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if contains $name .Release.Name -}}{{ .Release.Name | trunc 63 | trimSuffix "-" }}{{- else -}}{{ printf "%s-%s" .Release.Name $name | trunc 63 | trimSuffix "-" }}{{- end -}}
{{- end -}}
{{- end -}}

{{- define "redis.namespace" -}}{{ default .Release.Namespace .Values.namespaceOverride }}{{- end -}}

{{- define "redis.selector" -}}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/name: {{ default .Chart.Name .Values.nameOverride }}
{{- end -}}

{{- define "redis.labels" -}}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/name: {{ default .Chart.Name .Values.nameOverride }}
app.kubernetes.io/version: {{ .Chart.AppVersion }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* The metadata that every object has: (list root name component). */}}
{{- define "redis.metadata" -}}
{{- $root := index . 0 -}}
name: {{ index . 1 }}
namespace: {{ include "redis.namespace" $root | quote }}
labels:
  {{- include "redis.labels" $root | nindent 2 }}
  {{- with index . 2 }}
  app.kubernetes.io/component: {{ . }}
  {{- end }}
{{- with $root.Values.commonAnnotations }}
annotations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "redis.image" -}}
{{- $registry := default .Values.image.registry .Values.global.imageRegistry -}}
{{- if .Values.image.digest -}}
{{- printf "%s/%s@%s" $registry .Values.image.repository .Values.image.digest -}}
{{- else -}}
{{- printf "%s/%s:%s" $registry .Values.image.repository (toString .Values.image.tag) -}}
{{- end -}}
{{- end -}}

{{- define "redis.secretName" -}}{{ default (include "redis.fullname" .) .Values.auth.existingSecret }}{{- end -}}
{{- define "redis.secretKey" -}}{{ and .Values.auth.existingSecret .Values.auth.existingSecretPasswordKey | default "redis-password" }}{{- end -}}

{{/* (list root role): the ServiceAccount of a role, master or replica. */}}
{{- define "redis.serviceAccount" -}}
{{- $root := index . 0 -}}{{- $sa := (index $root.Values (index . 1)).serviceAccount -}}
{{- if $sa.create -}}{{ default (printf "%s-%s" (include "redis.fullname" $root) (index . 1)) $sa.name }}{{- else -}}{{ default "default" $sa.name }}{{- end -}}
{{- end -}}

{{/* Refuses what Bitnami's chart refuses. */}}
{{- define "redis.validate" -}}
{{- if and (not .Values.global.security.allowInsecureImages) (not (hasPrefix "bitnami/" .Values.image.repository)) -}}
{{- fail (printf "Unrecognized image %s: set global.security.allowInsecureImages to use it" (include "redis.image" .)) -}}
{{- end -}}
{{- if not (has .Values.architecture (list "standalone" "replication")) -}}
{{- fail (printf "Invalid architecture %q: standalone or replication" .Values.architecture) -}}
{{- end -}}
{{- end -}}

{{/* (list root role): whether a role's objects exist. */}}
{{- define "redis.enabled" -}}
{{- $root := index . 0 -}}
{{- if or (eq (index . 1) "master") (eq $root.Values.architecture "replication") -}}true{{- end -}}
{{- end -}}
