{{/* The chart's name, or what stands for it. */}}
{{- define "pillion.name" -}}
{{- .Values.nameOverride | default .Chart.Name | trunc 50 | trimSuffix "-" -}}
{{- end }}

{{/* What the names of all objects begin with: 50 characters, so that suffixes fit into 63. */}}
{{- define "pillion.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" -}}
{{- else if contains (include "pillion.name" .) .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "pillion.name" .) | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end }}

{{- define "pillion.namespace" -}}
{{- .Values.namespaceOverride | default .Release.Namespace -}}
{{- end }}

{{/* The names of the parts. */}}
{{- define "pillion.injector" -}}{{ include "pillion.fullname" . }}-injector{{- end }}
{{- define "pillion.seed" -}}{{ include "pillion.fullname" . }}-seed{{- end }}
{{- define "pillion.gossip" -}}{{ include "pillion.fullname" . }}-gossip{{- end }}
{{- define "pillion.webhook" -}}{{ .Values.injector.webhook.namePrefix }}{{ include "pillion.injector" . }}{{- end }}

{{- define "pillion.serviceAccount" -}}
{{- if .Values.injector.serviceAccount.create -}}
{{- .Values.injector.serviceAccount.name | default (include "pillion.injector" .) -}}
{{- else -}}
{{- .Values.injector.serviceAccount.name | default "default" -}}
{{- end -}}
{{- end }}

{{- define "pillion.tlsSecret" -}}
{{- .Values.injector.certs.secretName | default (printf "%s-tls" (include "pillion.injector" .)) -}}
{{- end }}

{{- define "pillion.gossipKeySecret" -}}
{{- .Values.gossip.keySecretName | default (printf "%s-key" (include "pillion.gossip" .)) -}}
{{- end }}

{{/* The name by which sidecars of every namespace find the seeds; without the cluster's domain. */}}
{{- define "pillion.gossipSeeds" -}}
{{- if .Values.gossip.seeds -}}
{{- join "," .Values.gossip.seeds -}}
{{- else -}}
{{- printf "%s.%s.svc:%d" (include "pillion.gossip" .) (include "pillion.namespace" .) (int .Values.sidecar.ports.gossip) -}}
{{- end -}}
{{- end }}

{{- define "pillion.gossipCluster" -}}
{{- .Values.gossip.cluster | default (include "pillion.fullname" .) -}}
{{- end }}

{{- define "pillion.image" -}}
{{- $registry := .Values.global.imageRegistry | default .Values.image.registry -}}
{{- with $registry }}{{ . | trimSuffix "/" }}/{{ end -}}
{{- .Values.image.repository -}}
{{- if .Values.image.digest -}}@{{ .Values.image.digest }}{{- else -}}:{{ .Values.image.tag | default .Chart.AppVersion }}{{- end -}}
{{- end }}

{{/* Pull secrets are written as names and as maps with `name`; both become maps, each once. */}}
{{- define "pillion.pullSecrets" -}}
{{- $names := list -}}
{{- range concat .Values.global.imagePullSecrets .Values.imagePullSecrets -}}
{{- $names = append $names (kindIs "map" . | ternary (get (kindIs "map" . | ternary . dict) "name") .) -}}
{{- end -}}
{{- with $names | uniq }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- end }}

{{/* Selectors never change, so they hold no version. Call with (list . "injector"). */}}
{{- define "pillion.selectorLabels" -}}
{{- $ := index . 0 -}}
app.kubernetes.io/name: {{ include "pillion.name" $ }}
app.kubernetes.io/instance: {{ $.Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end }}

{{- define "pillion.labels" -}}
{{- $ := index . 0 -}}
{{ include "pillion.selectorLabels" . }}
app.kubernetes.io/part-of: pillion
app.kubernetes.io/version: {{ $.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ $.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" $.Chart.Name $.Chart.Version | replace "+" "_" }}
{{- with $.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* Name, namespace, labels and annotations. Call with (list . name component annotations labels); the last two may be left out. */}}
{{- define "pillion.metadata" -}}
name: {{ index . 1 }}
namespace: {{ include "pillion.namespace" (index . 0) }}
{{ include "pillion.unbound" . }}
{{- end }}

{{/* The same of an object that belongs to no namespace, without its name. */}}
{{- define "pillion.unbound" -}}
{{- $ := index . 0 -}}
labels:
  {{- include "pillion.labels" (list $ (index . 2)) | nindent 2 }}
  {{- if gt (len .) 4 }}{{ with index . 4 }}
  {{- toYaml . | nindent 2 }}
  {{- end }}{{ end }}
{{- $own := gt (len .) 3 | ternary (index (append . dict) 3) dict }}
{{- with mustMerge (deepCopy $own) $.Values.commonAnnotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* What the profile `restricted` asks of a pod and of a container. */}}
{{- define "pillion.podSecurity" -}}
runAsNonRoot: true
{{- with .Values.injector.runAsUser }}
runAsUser: {{ int . }}
runAsGroup: {{ int . }}
fsGroup: {{ int . }}
{{- end }}
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "pillion.containerSecurity" -}}
allowPrivilegeEscalation: false
capabilities: {drop: [ALL]}
readOnlyRootFilesystem: true
{{- end }}

{{/* Where pods run. Call with (list . component). */}}
{{- define "pillion.placement" -}}
{{- $ := index . 0 -}}
{{- $labels := include "pillion.selectorLabels" . -}}
{{- with $.Values.injector }}
{{- with .priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
affinity:
{{- if .affinity }}
  {{- toYaml .affinity | nindent 2 }}
{{- else }}
  podAntiAffinity:
    preferredDuringSchedulingIgnoredDuringExecution:
      - weight: 100
        podAffinityTerm:
          topologyKey: kubernetes.io/hostname
          labelSelector:
            matchLabels:
              {{- $labels | nindent 14 }}
{{- end }}
topologySpreadConstraints:
{{- if .topologySpreadConstraints }}
  {{- toYaml .topologySpreadConstraints | nindent 2 }}
{{- else }}
  - topologyKey: topology.kubernetes.io/zone
    maxSkew: 1
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels:
        {{- $labels | nindent 8 }}
{{- end }}
{{- end }}
{{- end }}

{{/* Selects the namespaces that are never looked at; one list for the webhook and the policy. */}}
{{- define "pillion.excludedNamespaces" -}}
{{- $names := list -}}
{{- range .Values.injector.webhook.excludedNamespaces }}{{- $names = append $names (tpl . $) }}{{- end -}}
{{- toJson ($names | uniq) -}}
{{- end }}

{{/* Which pods are opted in: by their namespace, or by themselves. Call with (list . "namespace"). */}}
{{- define "pillion.selectors" -}}
{{- $ := index . 0 -}}
{{- $excluded := include "pillion.excludedNamespaces" $ | fromJsonArray -}}
namespaceSelector:
  matchExpressions:
    {{- if eq (index . 1) "namespace" }}
    - {key: pillion.dev/inject, operator: In, values: [enabled]}
    {{- else }}
    - {key: pillion.dev/inject, operator: NotIn, values: [enabled, disabled]}
    {{- end }}
    {{- with $excluded }}
    - {key: kubernetes.io/metadata.name, operator: NotIn, values: {{ toJson . }}}
    {{- end }}
objectSelector:
  matchExpressions:
    {{- if eq (index . 1) "namespace" }}
    - {key: pillion.dev/inject, operator: NotIn, values: ["false"]}
    {{- else }}
    - {key: pillion.dev/inject, operator: In, values: ["true"]}
    {{- end }}
{{- end }}

{{/* What the schema cannot say. */}}
{{- define "pillion.validate" -}}
{{- $certs := .Values.injector.certs -}}
{{- if and (eq $certs.mode "existing") (not $certs.secretName) -}}
{{- fail "injector.certs.mode is `existing`: name its Secret in injector.certs.secretName" -}}
{{- end -}}
{{- if and (eq $certs.mode "existing") (not $certs.caBundle) -}}
{{- fail "injector.certs.mode is `existing`: put the CA's certificate into injector.certs.caBundle (PEM, in Base64)" -}}
{{- end -}}
{{- if and $certs.caBundle (ne $certs.mode "existing") -}}
{{- fail (printf "injector.certs.caBundle belongs to mode `existing`; the mode is `%s`" $certs.mode) -}}
{{- end -}}
{{- if and .Values.enforce.enabled (semverCompare "<1.30.0-0" .Capabilities.KubeVersion.Version) -}}
{{- fail (printf "enforce.enabled needs Kubernetes 1.30; this is %s" .Capabilities.KubeVersion.Version) -}}
{{- end -}}
{{- if and .Values.injector.webhook.matchConditions (semverCompare "<1.28.0-0" .Capabilities.KubeVersion.Version) -}}
{{- fail (printf "injector.webhook.matchConditions needs Kubernetes 1.28; this is %s" .Capabilities.KubeVersion.Version) -}}
{{- end -}}
{{- if hasKey .Values.config.profiles "config" -}}
{{- fail "config.profiles.config: that file is config.data" -}}
{{- end -}}
{{- if and (eq .Values.sidecar.auth.mode "secret") (not .Values.sidecar.auth.secretName) -}}
{{- fail "sidecar.auth.mode is `secret`: name the Secret in sidecar.auth.secretName" -}}
{{- end -}}
{{- if and .Values.gossip.enabled (not .Values.gossip.seeds) (eq (int .Values.gossip.seed.replicas) 0) -}}
{{- fail "gossip.seed.replicas is 0: name addresses to join by in gossip.seeds, or set gossip.enabled to false" -}}
{{- end -}}
{{- $ports := list (int .Values.sidecar.ports.llm) (int .Values.sidecar.ports.admin) (int .Values.sidecar.ports.gossip) -}}
{{- if ne (len ($ports | uniq)) 3 -}}
{{- fail "sidecar.ports: llm, admin and gossip must be three different ports" -}}
{{- end -}}
{{- if eq (int .Values.injector.port) (int .Values.injector.adminPort) -}}
{{- fail "injector.port and injector.adminPort must be different" -}}
{{- end -}}
{{- end }}
