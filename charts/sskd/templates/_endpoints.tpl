{{/* Where things are: what the values say, or the chart's own services. */}}
{{- define "sskd.storageRoot" -}}
{{- .Values.storage.root | default (printf "s3://%s/sskd" .Values.seaweedfs.bucket) }}
{{- end }}

{{- define "sskd.storageEndpoint" -}}
{{- if .Values.seaweedfs.enabled -}}
http://{{ include "sskd.name" . }}-seaweedfs.{{ .Release.Namespace }}.svc.cluster.local:8333
{{- else }}{{ .Values.storage.endpoint }}{{ end }}
{{- end }}

{{- define "sskd.addressingStyle" -}}
{{- ternary "path" .Values.storage.addressingStyle .Values.seaweedfs.enabled }}
{{- end }}

{{- define "sskd.trackingUri" -}}
{{- if .Values.mlflow.enabled -}}
http://{{ include "sskd.name" . }}-mlflow.{{ .Release.Namespace }}.svc.cluster.local:5000
{{- else }}{{ .Values.tracking.uri }}{{ end }}
{{- end }}

{{/* The variables that are no secret, by name; see docs/cluster.md. */}}
{{- define "sskd.environment" -}}
{{- with include "sskd.trackingUri" . }}
MLFLOW_TRACKING_URI: {{ . | quote }}
{{- end }}
{{- with .Values.kfp.host }}
SSKD_KFP_HOST: {{ . | quote }}
{{- end }}
{{- if .Values.cache.enabled }}
SSKD_CACHE_DIR: {{ .Values.cache.path | quote }}
{{- end }}
{{- end }}

{{/* Store and tracking as an experiment file, for --experiment; the rest of it is the demo's and decides nothing. */}}
{{- define "sskd.experiment" -}}
preset: demo
storage:
  root: {{ include "sskd.storageRoot" . | quote }}
  {{- with include "sskd.storageEndpoint" . }}
  endpoint_url: {{ . | quote }}
  {{- end }}
  region: {{ .Values.storage.region | quote }}
  addressing_style: {{ include "sskd.addressingStyle" . }}
tracking:
  mode: {{ .Values.tracking.mode }}
{{- end }}

{{/* The first training that is to run on several nodes, as `NAME.machines is N`; empty for none. */}}
{{- define "sskd.several" -}}
{{- range $name, $node := .Values.cluster.nodes | default dict }}
{{- if gt (int ($node.machines | default 1)) 1 }}{{ printf "%s.machines is %v" $name $node.machines }}{{ break }}{{ end }}
{{- end }}
{{- end }}

{{/* The platform's file of docs/pipelines.md. */}}
{{- define "sskd.cluster" -}}
{{- $name := include "sskd.name" . }}
image: {{ .Values.image | quote }}
{{- with .Values.cpuImage }}
cpu_image: {{ . | quote }}
{{- end }}
pull_secrets: {{ .Values.imagePullSecrets | toJson }}
{{- $secrets := dict }}
{{- range list .Values.storage.secret .Values.tracking.secret }}
{{- if .name }}
{{- $keys := get $secrets .name | default dict }}
{{- range $variable, $key := .keys }}{{ $_ := set $keys $key $variable }}{{ end }}
{{- $_ := set $secrets .name $keys }}
{{- end }}
{{- end }}
secrets: {{ $secrets | toJson }}
{{- if include "sskd.trackingUri" . }}
config_maps:
  {{ $name }}-environment: {MLFLOW_TRACKING_URI: MLFLOW_TRACKING_URI}
{{- end }}
{{- with .Values.podSecurity.runAsUser }}
run_as_user: {{ . }}
{{- end }}
{{- with .Values.podSecurity.fsGroup }}
run_as_group: {{ . }}
{{- end }}
labels:
  {{- include "sskd.selector" (dict "root" . "component" "stage") | nindent 2 }}
{{- if include "sskd.several" . }}
trainer: {runtime: {{ $name }}, kind: TrainingRuntime}
{{- end }}
{{- if .Values.cache.enabled }}
cache:
  claim: {{ include "sskd.claim" (dict "volume" .Values.cache.volume "name" (printf "%s-cache" $name)) }}
  path: {{ .Values.cache.path }}
{{- end }}
{{- with .Values.cluster }}
{{ toYaml . }}
{{- end }}
{{- end }}
