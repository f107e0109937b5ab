{{/* Values that contradict each other, or what the cluster lacks: each ends the installation with the reason. */}}
{{- define "sskd.checks" -}}
{{- $v := .Values }}
{{- if not $v.image }}
{{- fail "image is required: the image of the stages as NAME@sha256:…, built from docker/train.Dockerfile or docker/cpu.Dockerfile" }}
{{- end }}
{{- if not $v.allowTags }}
{{- range $key, $image := dict "image" $v.image "cpuImage" $v.cpuImage "mlflow.image" (ternary $v.mlflow.image "" $v.mlflow.enabled) "seaweedfs.image" (ternary $v.seaweedfs.image "" $v.seaweedfs.enabled) }}
{{- if and $image (not (regexMatch "@sha256:[0-9a-f]{64}$" $image)) }}
{{- fail (printf "%s: '%s' is not given by digest: a tag can move, so one run could mix two versions; write NAME@sha256:…, or allowTags=true for a trial" $key $image) }}
{{- end }}
{{- end }}
{{- end }}
{{- range $key, $secret := dict "storage" $v.storage.secret "tracking" $v.tracking.secret }}
{{- if and $secret.name (not $secret.keys) }}
{{- fail (printf "%s.secret names '%s' and none of its keys; say which variable gets which, in %s.secret.keys" $key $secret.name $key) }}
{{- end }}
{{- end }}
{{- include "sskd.checkStore" . }}
{{- include "sskd.checkTracking" . }}
{{- include "sskd.checkRetrain" . }}
{{- include "sskd.checkDistributed" . }}
{{- include "sskd.checkNetwork" . }}
{{- include "sskd.checkVolumes" . }}
{{- include "sskd.checkCluster" . }}
{{- end }}

{{- define "sskd.checkStore" -}}
{{- $v := .Values }}
{{- if $v.seaweedfs.enabled }}
{{- if $v.storage.endpoint }}
{{- fail (printf "storage.endpoint (%s) and seaweedfs.enabled are two object stores; leave one of them out" $v.storage.endpoint) }}
{{- end }}
{{- $bucket := printf "s3://%s/" $v.seaweedfs.bucket }}
{{- if and $v.storage.root (not (hasPrefix $bucket (printf "%s/" (trimSuffix "/" $v.storage.root)))) }}
{{- fail (printf "storage.root (%s) is not in the bucket that SeaweedFS makes; write %s…, or change seaweedfs.bucket" $v.storage.root $bucket) }}
{{- end }}
{{- if not $v.seaweedfs.image }}
{{- fail "seaweedfs.image is required with seaweedfs.enabled: an image with the program weed, as NAME@sha256:…" }}
{{- end }}
{{- $given := $v.storage.secret.keys }}
{{- if or (not $v.storage.secret.name) (not (hasKey $given "AWS_ACCESS_KEY_ID")) (not (hasKey $given "AWS_SECRET_ACCESS_KEY")) }}
{{- fail "seaweedfs.enabled needs storage.secret with keys for AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY: without them the store would let everybody in" }}
{{- end }}
{{- else if not $v.storage.root }}
{{- fail "storage.root is required: the prefix that results go below, s3://bucket/prefix; or seaweedfs.enabled=true for a store in this namespace" }}
{{- end }}
{{- end }}

{{- define "sskd.checkTracking" -}}
{{- $v := .Values }}
{{- if regexMatch "^https?://[^/]*@" $v.tracking.uri }}
{{- fail "tracking.uri holds a user or password; put them into a secret and name it in tracking.secret" }}
{{- end }}
{{- if and $v.mlflow.enabled $v.tracking.uri }}
{{- fail (printf "tracking.uri (%s) and mlflow.enabled are two MLflow servers; leave one of them out" $v.tracking.uri) }}
{{- end }}
{{- if and $v.mlflow.enabled (eq $v.tracking.mode "off") }}
{{- fail "mlflow.enabled installs a server and tracking.mode 'off' uses none; change one of them" }}
{{- end }}
{{- if and $v.tracking.secret.name (hasPrefix "http://" (include "sskd.trackingUri" .)) }}
{{- fail (printf "tracking.secret would be sent to %s over plain http; use an https tracking.uri, or no secret" (include "sskd.trackingUri" .)) }}
{{- end }}
{{- if and (eq $v.tracking.mode "own") (not (include "sskd.trackingUri" .)) }}
{{- fail "tracking.mode 'own' needs an MLflow server: set tracking.uri, or mlflow.enabled=true" }}
{{- end }}
{{- end }}

{{- define "sskd.checkRetrain" -}}
{{- $v := .Values }}
{{- if $v.retrain.enabled }}
{{- if not $v.retrain.unlabeled }}
{{- fail "retrain.enabled needs retrain.unlabeled: the s3:// prefixes in which new images appear" }}
{{- end }}
{{- if or (eq $v.tracking.mode "off") (not (include "sskd.trackingUri" .)) }}
{{- fail "retrain.enabled needs an MLflow registry, which knows the champion to go on from: set tracking.uri or mlflow.enabled=true, and no tracking.mode 'off'" }}
{{- end }}
{{- if and (eq $v.retrain.runner "kfp") (not $v.kfp.host) }}
{{- fail "retrain.runner 'kfp' needs kfp.host; or set retrain.runner=pod, which does all in the CronJob's own pod" }}
{{- end }}
{{- end }}
{{- end }}

{{- define "sskd.checkDistributed" -}}
{{- $v := .Values }}
{{- $several := include "sskd.several" . }}
{{- if and $several (not $v.distributed.enabled) }}
{{- fail (printf "cluster.nodes.%s and distributed.enabled is false; enable it, which says what those nodes' pods are and lets them reach each other" $several) }}
{{- end }}
{{- if $v.distributed.enabled }}
{{- if not (.Capabilities.APIVersions.Has "trainer.kubeflow.org/v1alpha1/TrainingRuntime") }}
{{- fail "distributed.enabled needs Kubeflow Trainer v2, and this cluster has no trainer.kubeflow.org/v1alpha1; install Trainer, or leave distributed out: one node with several GPUs needs neither (check: kubectl api-resources --api-group=trainer.kubeflow.org)" }}
{{- end }}
{{- if and $v.cache.enabled (ne $v.cache.accessMode "ReadWriteMany") (not $v.cache.volume.existingClaim) }}
{{- fail (printf "distributed.enabled is for several nodes and cache.accessMode %s lets one in; use ReadWriteMany, or cache.enabled=false" $v.cache.accessMode) }}
{{- end }}
{{- end }}
{{- end }}

{{- define "sskd.checkNetwork" -}}
{{- $v := .Values }}
{{- if and $v.seaweedfs.enabled (not $v.networkPolicy.enabled) }}
{{- fail "seaweedfs.enabled needs networkPolicy.enabled: SeaweedFS's internal ports ask nobody for a key" }}
{{- end }}
{{- if and $v.mlflow.enabled (not $v.networkPolicy.enabled) }}
{{- fail "mlflow.enabled needs networkPolicy.enabled: the server asks nobody who they are" }}
{{- end }}
{{- if and $v.networkPolicy.hub (not $v.networkPolicy.anywhere) }}
{{- fail "networkPolicy.hub lets stages reach any address, and networkPolicy.anywhere=false forbids that; copy the weights to s3:// and leave hub out" }}
{{- end }}
{{- end }}

{{- define "sskd.checkVolumes" -}}
{{- range $key, $part := dict "seaweedfs" .Values.seaweedfs "mlflow" .Values.mlflow "cache" .Values.cache }}
{{- if and $part.enabled $part.volume.existingClaim $part.volume.storageClass }}
{{- fail (printf "%s.volume: existingClaim '%s' has its storage class already; leave storageClass out" $key $part.volume.existingClaim) }}
{{- end }}
{{- end }}
{{- end }}

{{/* What must be there already. `helm template` sees no cluster and looks for nothing. */}}
{{- define "sskd.checkCluster" -}}
{{- $v := .Values }}
{{- $space := .Release.Namespace }}
{{- $connected := lookup "v1" "ConfigMap" $space "kube-root-ca.crt" }}
{{- if and $connected $v.checks.secrets }}
{{- range list $v.storage.secret $v.tracking.secret }}
{{- if .name }}
{{- $found := lookup "v1" "Secret" $space .name }}
{{- $create := printf "kubectl create secret generic %s -n %s" .name $space }}
{{- range $key := values .keys | sortAlpha }}{{ $create = printf "%s --from-literal=%s=…" $create $key }}{{ end }}
{{- if not $found }}
{{- fail (printf "there is no secret '%s' in namespace %s; make it: %s" .name $space $create) }}
{{- end }}
{{- range $key := values .keys | sortAlpha }}
{{- if not (hasKey ($found.data | default dict) $key) }}
{{- fail (printf "secret '%s' in namespace %s has no key '%s'; check: kubectl describe secret %s -n %s" $found.metadata.name $space $key $found.metadata.name $space) }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
{{- range $v.imagePullSecrets }}
{{- if not (lookup "v1" "Secret" $space .) }}
{{- fail (printf "there is no secret '%s' in namespace %s, which imagePullSecrets names; make it: kubectl create secret docker-registry %s -n %s …" . $space . $space) }}
{{- end }}
{{- end }}
{{- end }}
{{- if $connected }}
{{- range $key, $part := dict "seaweedfs" $v.seaweedfs "mlflow" $v.mlflow "cache" $v.cache }}
{{- if $part.enabled }}
{{- $claim := $part.volume.existingClaim }}
{{- if and $claim $v.checks.secrets (not (lookup "v1" "PersistentVolumeClaim" $space $claim)) }}
{{- fail (printf "%s.volume.existingClaim: there is no volume claim '%s' in namespace %s; check: kubectl get pvc -n %s" $key $claim $space $space) }}
{{- end }}
{{- $class := $part.volume.storageClass }}
{{- if and $v.checks.storageClasses (not $claim) }}
{{- if and $class (not (lookup "storage.k8s.io/v1" "StorageClass" "" $class)) }}
{{- fail (printf "%s.volume.storageClass: this cluster has no storage class '%s'; check: kubectl get storageclass" $key $class) }}
{{- end }}
{{- if not $class }}
{{- $default := false }}
{{- range (lookup "storage.k8s.io/v1" "StorageClass" "" "").items }}
{{- if eq (dig "storageclass.kubernetes.io/is-default-class" "false" (.metadata.annotations | default dict)) "true" }}{{ $default = true }}{{ end }}
{{- end }}
{{- if not $default }}
{{- fail (printf "%s.volume.storageClass is empty and this cluster has no default storage class; name one of: kubectl get storageclass" $key) }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
