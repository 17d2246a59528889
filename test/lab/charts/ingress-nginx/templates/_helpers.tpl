{{- define "in.name" -}}{{ default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}{{- end -}}

{{- define "in.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" -}}
{{- else if contains (include "in.name" .) .Release.Name -}}
{{- .Release.Name | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "in.name" .) | trunc 63 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "in.namespace" -}}{{ default .Release.Namespace .Values.namespaceOverride }}{{- end -}}
{{- define "in.controller" -}}{{ printf "%s-%s" (include "in.fullname" .) .Values.controller.name }}{{- end -}}
{{- define "in.admission" -}}{{ printf "%s-%s" (include "in.fullname" .) .Values.controller.admissionWebhooks.name }}{{- end -}}
{{- define "in.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}{{ default (include "in.fullname" .) .Values.serviceAccount.name }}{{- else -}}{{ default "default" .Values.serviceAccount.name }}{{- end -}}
{{- end -}}

{{- define "in.selector" -}}
app.kubernetes.io/name: {{ include "in.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{/* (list root component): the labels of an object. */}}
{{- define "in.labels" -}}
{{- $root := index . 0 -}}
helm.sh/chart: {{ printf "%s-%s" $root.Chart.Name $root.Chart.Version }}
{{ include "in.selector" $root }}
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
app.kubernetes.io/part-of: {{ include "in.name" $root }}
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
{{- with index . 1 }}
app.kubernetes.io/component: {{ . }}
{{- end }}
{{- with $root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* (list root name component): the metadata of a namespaced object. */}}
{{- define "in.metadata" -}}
name: {{ index . 1 }}
namespace: {{ include "in.namespace" (index . 0) }}
labels: {{- include "in.labels" (list (index . 0) (index . 2)) | nindent 2 }}
{{- end -}}

{{/* (list root image): the reference of an image. */}}
{{- define "in.image" -}}
{{- $i := index . 1 -}}
{{- $repository := $i.repository | default (printf "%s/%s" ($i.registry | default (index . 0).Values.global.image.registry) $i.image) -}}
{{- printf "%s:%s" $repository $i.tag -}}{{- with $i.digest -}}@{{ . }}{{- end -}}
{{- end -}}

{{- define "in.args" -}}
- /nginx-ingress-controller
{{- with .Values.controller }}
{{- if not .enableAnnotationValidations }}
- --enable-annotation-validation=false
{{- end }}
{{- if and .publishService.enabled .service.enabled }}
- --publish-service={{ .publishService.pathOverride | default (printf "$(POD_NAMESPACE)/%s" (include "in.controller" $)) }}
{{- end }}
- --election-id={{ .electionID | default (printf "%s-leader" (include "in.fullname" $)) }}
- --controller-class={{ .ingressClassResource.controllerValue }}
{{- with .ingressClass }}
- --ingress-class={{ . }}
{{- end }}
- --configmap=$(POD_NAMESPACE)/{{ include "in.controller" $ }}
{{- if .scope.enabled }}
- --watch-namespace={{ .scope.namespace | default "$(POD_NAMESPACE)" }}
{{- end }}
{{- if .admissionWebhooks.enabled }}
- --validating-webhook=:{{ .admissionWebhooks.port }}
- --validating-webhook-certificate={{ .admissionWebhooks.certificate }}
- --validating-webhook-key={{ .admissionWebhooks.key }}
{{- end }}
{{- if .ingressClassByName }}
- --ingress-class-by-name=true
{{- end }}
{{- if .watchIngressWithoutClass }}
- --watch-ingress-without-class=true
{{- end }}
{{- range $name, $value := .extraArgs }}
- --{{ $name }}{{ if ne (toString $value) "" }}={{ $value }}{{ end }}
{{- end }}
{{- end }}
{{- end -}}
