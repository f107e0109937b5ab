{{- define "sskd.name" -}}
{{- if contains "sskd" .Release.Name }}{{ .Release.Name | trunc 40 | trimSuffix "-" }}{{ else }}{{ printf "%s-sskd" (.Release.Name | trunc 35 | trimSuffix "-") }}{{ end }}
{{- end }}

{{- define "sskd.cpuImage" -}}{{ .Values.cpuImage | default .Values.image }}{{- end }}

{{- define "sskd.runsAccount" -}}
{{- .Values.serviceAccounts.runs.name | default (printf "%s-runs" (include "sskd.name" .)) }}
{{- end }}

{{- define "sskd.servicesAccount" -}}
{{- .Values.serviceAccounts.services.name | default (printf "%s-services" (include "sskd.name" .)) }}
{{- end }}

{{/* What the policies select by; `component` says which kind of pod. */}}
{{- define "sskd.selector" -}}
app.kubernetes.io/name: sskd
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{- define "sskd.labels" -}}
{{ include "sskd.selector" . }}
app.kubernetes.io/part-of: sskd
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ .root.Chart.Name }}-{{ .root.Chart.Version }}
{{- end }}

{{- define "sskd.podSecurity" -}}
runAsNonRoot: true
{{- with .Values.podSecurity.runAsUser }}
runAsUser: {{ . }}
runAsGroup: {{ . }}
{{- end }}
{{- with .Values.podSecurity.fsGroup }}
fsGroup: {{ . }}
fsGroupChangePolicy: OnRootMismatch
{{- end }}
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{- define "sskd.containerSecurity" -}}
runAsNonRoot: true
allowPrivilegeEscalation: false
privileged: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{- define "sskd.pullSecrets" -}}
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- end }}

{{/* The store's and MLflow's secrets as environment variables, by reference. */}}
{{- define "sskd.secretEnvironment" -}}
{{- range $secret := . }}
{{- if $secret.name }}
{{- range $variable, $key := $secret.keys }}
- name: {{ $variable }}
  valueFrom:
    secretKeyRef:
      name: {{ $secret.name }}
      key: {{ $key }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{- define "sskd.claim" -}}
{{- .volume.existingClaim | default .name }}
{{- end }}

{{/* A volume claim, unless one that exists is named. */}}
{{- define "sskd.volumeClaim" -}}
{{- if not .volume.existingClaim }}
apiVersion: v1
kind: PersistentVolumeClaim
metadata:
  name: {{ .name }}
  labels:
    {{- include "sskd.labels" (dict "root" .root "component" .component) | nindent 4 }}
  annotations:
    # What it holds outlives the release.
    helm.sh/resource-policy: keep
spec:
  accessModes: [{{ .accessMode }}]
  {{- with .volume.storageClass }}
  storageClassName: {{ . }}
  {{- end }}
  resources:
    requests:
      storage: {{ .volume.size }}
{{- end }}
{{- end }}

{{/* Requests and limits, amounts as strings: a bare 1 is a number to YAML and a quantity to Kubernetes. */}}
{{- define "sskd.resources" -}}
{{- range $kind, $amounts := . }}
{{ $kind }}:
  {{- range $name, $amount := $amounts }}
  {{ $name }}: {{ $amount | toString | quote }}
  {{- end }}
{{- end }}
{{- end }}
