{{/* One rule of a policy: to or from peers, on ports. */}}
{{- define "sskd.rule" -}}
- {{ .direction }}:
    {{- toYaml .peers | nindent 4 }}
  ports:
    {{- range .ports }}
    - {protocol: TCP, port: {{ . }}}
    {{- end }}
{{- end }}

{{/* The peers of a service: those of the values; else, from its URL, a namespace of the cluster, or any address. */}}
{{- define "sskd.peersOf" -}}
{{- $host := regexReplaceAll ":[0-9]+$" (default "" (urlParse .url).host) "" }}
{{- if .given }}
{{- toYaml .given }}
{{- else if regexMatch "^[^.]+[.][^.]+[.]svc([.]cluster[.]local)?$" $host }}
- namespaceSelector:
    matchLabels:
      kubernetes.io/metadata.name: {{ index (splitList "." $host) 1 }}
{{- else if .root.Values.networkPolicy.anywhere }}
- ipBlock: {cidr: 0.0.0.0/0}
- ipBlock: {cidr: "::/0"}
{{- else }}
{{- fail (printf "networkPolicy.%s.peers: say where %s is, e.g. [{ipBlock: {cidr: 192.0.2.10/32}}]; networkPolicy.anywhere=false lets nothing reach every address" .what (.url | default "the service")) }}
{{- end }}
{{- end }}

{{/* The ports of a service: those of the values; else the URL's. */}}
{{- define "sskd.portsOf" -}}
{{- $parts := urlParse .url }}
{{- $port := regexFind "[0-9]+$" (regexFind ":[0-9]+$" $parts.host) }}
{{- if .given }}
{{- .given | toJson }}
{{- else if $port }}
{{- printf "[%s]" $port }}
{{- else }}
{{- ternary "[80]" "[443]" (eq $parts.scheme "http") }}
{{- end }}
{{- end }}

{{/* Egress rules by destination. */}}
{{- define "sskd.to.dns" -}}
{{- $dns := .Values.networkPolicy.dns }}
- to:
    {{- toYaml $dns.peers | nindent 4 }}
  ports:
    {{- range $dns.ports }}
    - {protocol: UDP, port: {{ . }}}
    - {protocol: TCP, port: {{ . }}}
    {{- end }}
{{- end }}

{{- define "sskd.to.storage" -}}
{{- $given := .Values.networkPolicy.storage }}
{{- if .Values.seaweedfs.enabled }}
{{- include "sskd.rule" (dict "direction" "to" "peers" (list (dict "podSelector" (dict "matchLabels" (include "sskd.selector" (dict "root" . "component" "seaweedfs") | fromYaml)))) "ports" (list 8333)) }}
{{- else }}
{{- $url := include "sskd.storageEndpoint" . | default (printf "https://s3.%s.amazonaws.com" .Values.storage.region) }}
{{- $about := dict "root" . "url" $url "what" "storage" }}
{{- include "sskd.rule" (dict "direction" "to" "peers" (include "sskd.peersOf" (set $about "given" $given.peers) | fromYamlArray) "ports" (include "sskd.portsOf" (set $about "given" $given.ports) | fromJsonArray)) }}
{{- end }}
{{- end }}

{{- define "sskd.to.tracking" -}}
{{- $given := .Values.networkPolicy.tracking }}
{{- $url := include "sskd.trackingUri" . }}
{{- if .Values.mlflow.enabled }}
{{- include "sskd.rule" (dict "direction" "to" "peers" (list (dict "podSelector" (dict "matchLabels" (include "sskd.selector" (dict "root" . "component" "mlflow") | fromYaml)))) "ports" (list 5000)) }}
{{- else if and $url (ne .Values.tracking.mode "off") }}
{{- $about := dict "root" . "url" $url "what" "tracking" }}
{{- include "sskd.rule" (dict "direction" "to" "peers" (include "sskd.peersOf" (set $about "given" $given.peers) | fromYamlArray) "ports" (include "sskd.portsOf" (set $about "given" $given.ports) | fromJsonArray)) }}
{{- end }}
{{- end }}

{{- define "sskd.to.kfp" -}}
{{- $given := .Values.networkPolicy.kfp }}
{{- $peers := $given.peers | default (list (dict "namespaceSelector" (dict "matchLabels" (dict "kubernetes.io/metadata.name" .Values.kfp.namespace)))) }}
{{- include "sskd.rule" (dict "direction" "to" "peers" $peers "ports" $given.ports) }}
{{- end }}

{{/* KFP's API alone, for who only submits. */}}
{{- define "sskd.to.kfpApi" -}}
{{- $about := dict "root" . "url" .Values.kfp.host "what" "kfp" "given" .Values.networkPolicy.kfp.peers }}
{{- include "sskd.rule" (dict "direction" "to" "peers" (include "sskd.peersOf" $about | fromYamlArray) "ports" (include "sskd.portsOf" (dict "url" .Values.kfp.host "given" list) | fromJsonArray)) }}
{{- end }}

{{- define "sskd.to.kubernetes" -}}
{{- $given := .Values.networkPolicy.kubernetes }}
{{- $about := dict "root" . "url" "https://kubernetes" "what" "kubernetes" "given" $given.peers }}
{{- include "sskd.rule" (dict "direction" "to" "peers" (include "sskd.peersOf" $about | fromYamlArray) "ports" $given.ports) }}
{{- end }}

{{- define "sskd.to.identity" -}}
{{- if not .Values.storage.secret.name }}
{{- $about := dict "root" . "url" "https://identity" "what" "identity" "given" .Values.networkPolicy.identity.peers }}
{{- include "sskd.rule" (dict "direction" "to" "peers" (include "sskd.peersOf" $about | fromYamlArray) "ports" .Values.networkPolicy.identity.ports) }}
{{- end }}
{{- end }}

{{- define "sskd.to.hub" -}}
{{- if .Values.networkPolicy.hub }}
{{- include "sskd.rule" (dict "direction" "to" "peers" (list (dict "ipBlock" (dict "cidr" "0.0.0.0/0")) (dict "ipBlock" (dict "cidr" "::/0"))) "ports" (list 443)) }}
{{- end }}
{{- end }}

{{- define "sskd.to.ranks" -}}
- to:
    - podSelector:
        matchLabels:
          {{- include "sskd.selector" (dict "root" . "component" "rank") | nindent 10 }}
{{- end }}

{{/* Who may reach one of the chart's services: the named components, and the values' peers. */}}
{{- define "sskd.clients" -}}
{{- $root := .root }}
{{- range .components }}
- podSelector:
    matchLabels:
      {{- include "sskd.selector" (dict "root" $root "component" .) | nindent 6 }}
{{- end }}
{{- with .others }}
{{ toYaml . }}
{{- end }}
{{- end }}
