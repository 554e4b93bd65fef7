{{/* Value of label app.kubernetes.io/name. */}}
{{- define "spiderpool.name" -}}
{{- .Values.global.nameOverride | default "spiderpool" | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{/* Labels that select the pods of one component. They are immutable in a workload: never add to them. Takes (list $ COMPONENT). */}}
{{- define "spiderpool.selector" -}}
{{- $root := index . 0 -}}
app.kubernetes.io/name: {{ include "spiderpool.name" $root }}
app.kubernetes.io/instance: {{ $root.Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end -}}

{{/* Labels of every object. Takes (list $ COMPONENT). */}}
{{- define "spiderpool.labels" -}}
{{- $root := index . 0 -}}
{{ include "spiderpool.selector" . }}
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_" }}
{{- with $root.Values.global.commonLabels }}
{{ tpl (toYaml .) $root }}
{{- end }}
{{- end -}}

{{/*
`annotations:` with the common ones and those of the object, on lines of its own; nothing at all when there are none.
Takes (list $ MAP INDENT), the map may be empty.
*/}}
{{- define "spiderpool.annotations" -}}
{{- $root := index . 0 -}}
{{- $common := fromYaml (tpl (toYaml ($root.Values.global.commonAnnotations | default dict)) $root) -}}
{{- with mergeOverwrite $common (deepCopy (index . 1 | default dict)) }}
{{- printf "annotations:\n%s" (toYaml . | indent 2) | nindent (int (index $ 2)) }}
{{- end -}}
{{- end -}}

{{/* Full name of an image: a digest beats a tag, and the tag defaults to the version of the programs. Takes (list $ IMAGE). */}}
{{- define "spiderpool.image" -}}
{{- $root := index . 0 -}}
{{- $image := index . 1 -}}
{{- $registry := $root.Values.global.imageRegistryOverride | default $image.registry -}}
{{- with $registry }}{{ . }}/{{ end }}{{ $image.repository }}
{{- if $image.digest }}@{{ $image.digest }}{{ else }}:{{ $image.tag | default (printf "v%s" $root.Chart.AppVersion) }}{{ end -}}
{{- end -}}

{{/*
Values of the webhook: what `spiderpoolWebhook` does not set comes from `spiderpoolController`, because it is the same image run
at the same place. Returns YAML.
*/}}
{{- define "spiderpool.webhook" -}}
{{- mergeOverwrite (deepCopy .Values.spiderpoolController) (deepCopy .Values.spiderpoolWebhook) | toYaml -}}
{{- end -}}

{{/*
Address that the kubelet probes. On the host network that is loopback: the node's own address may be filtered by a firewall of
the host. In a pod network the kubelet must use the pod's address, which is what an absent `host` means.
Takes (list $ HOSTNETWORK).
*/}}
{{- define "spiderpool.probeHost" -}}
{{- $ipam := (index . 0).Values.ipam -}}
{{- if index . 1 -}}
host: {{ if or $ipam.enableIPv4 (not $ipam.enableIPv6) }}127.0.0.1{{ else }}"::1"{{ end }}
{{- end -}}
{{- end -}}

{{/* The three probes of a component. Takes (list $ COMPONENT_VALUES HOSTNETWORK READINESS_DELAY). */}}
{{- define "spiderpool.probes" -}}
{{- $root := index . 0 -}}
{{- $component := index . 1 -}}
{{- $host := include "spiderpool.probeHost" (list $root (index . 2)) -}}
{{- $checks := $component.healthChecking -}}
startupProbe:
  httpGet:
    path: /v1/runtime/startup
    port: {{ $component.httpPort }}
    {{- with $host }}
    {{- . | nindent 4 }}
    {{- end }}
  failureThreshold: {{ $checks.startupProbe.failureThreshold }}
  periodSeconds: {{ $checks.startupProbe.periodSeconds }}
  timeoutSeconds: 5
readinessProbe:
  httpGet:
    path: /v1/runtime/readiness
    port: {{ $component.httpPort }}
    {{- with $host }}
    {{- . | nindent 4 }}
    {{- end }}
  failureThreshold: {{ $checks.readinessProbe.failureThreshold }}
  periodSeconds: {{ $checks.readinessProbe.periodSeconds }}
  timeoutSeconds: 5
livenessProbe:
  httpGet:
    path: /v1/runtime/liveness
    port: {{ $component.httpPort }}
    {{- with $host }}
    {{- . | nindent 4 }}
    {{- end }}
  failureThreshold: {{ $checks.livenessProbe.failureThreshold }}
  periodSeconds: {{ $checks.livenessProbe.periodSeconds }}
  timeoutSeconds: 5
{{- end -}}

{{/* Environment that every program reads. Levels fatal and panic, which earlier charts knew, are error. Takes COMPONENT_VALUES. */}}
{{- define "spiderpool.env" -}}
- name: SPIDERPOOL_LOG_LEVEL
  value: {{ ternary "error" .debug.logLevel (has .debug.logLevel (list "fatal" "panic")) | quote }}
- name: SPIDERPOOL_HEALTH_PORT
  value: {{ .httpPort | quote }}
- name: SPIDERPOOL_ENABLED_METRIC
  value: {{ .prometheus.enabled | quote }}
- name: SPIDERPOOL_ENABLED_DEBUG_METRIC
  value: {{ .prometheus.enabledDebugMetric | quote }}
- name: SPIDERPOOL_METRIC_HTTP_PORT
  value: {{ .prometheus.port | quote }}
- name: SPIDERPOOL_POD_NAME
  valueFrom: {fieldRef: {fieldPath: metadata.name}}
- name: SPIDERPOOL_POD_NAMESPACE
  valueFrom: {fieldRef: {fieldPath: metadata.namespace}}
- name: SPIDERPOOL_NODE_NAME
  valueFrom: {fieldRef: {fieldPath: spec.nodeName}}
{{- end -}}

{{/*
Update strategy of a Deployment. On the host network a new pod needs the ports that the old one holds on the node, so the old
one has to go first; with a surge the update of a one-node cluster would wait for ever.
*/}}
{{- define "spiderpool.strategy" -}}
type: RollingUpdate
rollingUpdate:
  {{- if .hostnetwork }}
  maxSurge: 0
  maxUnavailable: 1
  {{- else }}
  maxSurge: 1
  maxUnavailable: 0
  {{- end }}
{{- end -}}

{{/* Where pods of a Deployment go: the given affinity, or spread over the nodes where that is possible. Takes (list $ COMPONENT_VALUES). */}}
{{- define "spiderpool.affinity" -}}
{{- $root := index . 0 -}}
{{- $component := index . 1 -}}
{{- if $component.affinity -}}
{{- tpl (toYaml $component.affinity) $root -}}
{{- else -}}
podAntiAffinity:
  preferredDuringSchedulingIgnoredDuringExecution:
    - weight: 100
      podAffinityTerm:
        topologyKey: kubernetes.io/hostname
        labelSelector:
          matchLabels:
            {{- include "spiderpool.selector" (list $root $component.name) | nindent 12 }}
{{- end -}}
{{- end -}}

{{/* Container rights of operator and webhook: none. Values may override single fields. Takes COMPONENT_VALUES. */}}
{{- define "spiderpool.unprivileged" -}}
{{- $ours := dict
  "runAsNonRoot" true "runAsUser" 65532 "runAsGroup" 65532
  "allowPrivilegeEscalation" false "readOnlyRootFilesystem" true
  "capabilities" (dict "drop" (list "ALL"))
  "seccompProfile" (dict "type" "RuntimeDefault") -}}
{{- mergeOverwrite $ours (deepCopy (.securityContext | default dict)) | toYaml -}}
{{- end -}}

{{/* ClusterRole that gathers the rights to read workloads that are not of Kubernetes itself. */}}
{{- define "spiderpool.workloadsRole" -}}
{{ .Values.spiderpoolController.name }}-workloads
{{- end -}}

{{/* User name of the agent's service account, as the API server sees it. */}}
{{- define "spiderpool.agentUser" -}}
system:serviceaccount:{{ .Release.Namespace }}:{{ .Values.spiderpoolAgent.name }}
{{- end -}}

{{/* User name of the operator's service account, as the API server sees it. */}}
{{- define "spiderpool.controllerUser" -}}
system:serviceaccount:{{ .Release.Namespace }}:{{ .Values.spiderpoolController.name }}
{{- end -}}

{{/* What all entries of the webhook configurations have in common. Takes (list $ PATH). */}}
{{- define "spiderpool.webhookEntry" -}}
{{- $root := index . 0 -}}
{{- $w := include "spiderpool.webhook" $root | fromYaml -}}
{{- $tls := $root.Values.spiderpoolController.tls -}}
admissionReviewVersions: [v1]
clientConfig:
  service:
    namespace: {{ $root.Release.Namespace }}
    name: {{ $w.name }}
    port: {{ $w.webhookPort }}
    path: {{ index . 1 }}
  {{- if eq $tls.method "provided" }}
  caBundle: {{ $tls.provided.tlsCa }}
  {{- end }}
matchPolicy: Equivalent
sideEffects: None
timeoutSeconds: 5
{{- end -}}

{{/*
Which requests about our own kinds the webhook sees. The operator's are not among them: it checks what it writes itself, and must
be able to write while the webhook is away. Nor are those of who takes things away when an owner, a namespace or all of Spiderpool
goes, nor an update that leaves spec and labels as they are, such as taking a finalizer off.
*/}}
{{- define "spiderpool.webhookConditions" -}}
- name: not-of-a-controller
  expression: >-
    !(request.userInfo.username in [
    {{ include "spiderpool.controllerUser" . | squote }},
    {{ include "spiderpool.cleanUser" . | squote }},
    'system:serviceaccount:kube-system:generic-garbage-collector',
    'system:serviceaccount:kube-system:namespace-controller',
    'system:kube-controller-manager'])
- name: spec-or-labels-changed
  expression: >-
    request.operation != 'UPDATE' || !has(object.spec) || !has(oldObject.spec) || object.spec != oldObject.spec ||
    object.metadata.?labels.orValue({}) != oldObject.metadata.?labels.orValue({})
{{- end -}}

{{/* Name of what cleans up at an uninstall. */}}
{{- define "spiderpool.cleanName" -}}
{{ .Values.spiderpoolController.name }}-hook-{{ ternary "pre" "post" .Values.spiderpoolController.cleanup.enable }}-delete
{{- end -}}

{{/* User name of its service account, as the API server sees it. */}}
{{- define "spiderpool.cleanUser" -}}
system:serviceaccount:{{ .Release.Namespace }}:{{ include "spiderpool.cleanName" . }}
{{- end -}}

{{/* Name of the Secret with the key of the CA, which only the operator reads. */}}
{{- define "spiderpool.authoritySecret" -}}
{{ .Values.spiderpoolController.tls.secretName }}-ca
{{- end -}}

{{/* A number of days, or a duration such as 30s, as text: numbers of a values file are floats to a template. */}}
{{- define "spiderpool.lifetime" -}}
{{- if kindIs "string" . }}{{ . }}{{ else }}{{ int64 . }}{{ end -}}
{{- end -}}

{{/* Names that the webhook's certificate is valid for, as a JSON list. */}}
{{- define "spiderpool.tlsNames" -}}
{{- $names := list -}}
{{- range $service := list .Values.spiderpoolWebhook.name .Values.spiderpoolController.name -}}
{{- $short := printf "%s.%s" $service $.Release.Namespace -}}
{{- $names = concat $names (list $service $short (printf "%s.svc" $short) (printf "%s.svc.%s" $short $.Values.global.clusterDnsDomain)) -}}
{{- end -}}
{{- $names | toJson -}}
{{- end -}}

{{/*
conf.yml, read once at start by every program. Pods carry its checksum, so that a change restarts them.
The number of redundant addresses is written under both names it has: documentation has always used the first, programs the second.
Numbers of a values file are floats to a template, which prints large ones with an exponent, hence int64.
*/}}
{{- define "spiderpool.conf" -}}
{{- $subnet := .Values.ipam.spiderSubnet -}}
{{- $auto := and $subnet.enable $subnet.autoPool.enable -}}
{{- /* A null would be 0, which is none; and 0 has to stay 0. */ -}}
{{- $quarantine := .Values.ipam.quarantineMaxPercent -}}
{{- $quarantine = kindIs "invalid" $quarantine | ternary 25 $quarantine -}}
{{- $redundant := ternary $subnet.autoPool.defaultRedundantIPNumber 0 $auto -}}
ipamUnixSocketPath: {{ .Values.global.ipamUNIXSocketHostPath | quote }}
enableIPv4: {{ .Values.ipam.enableIPv4 }}
enableIPv6: {{ .Values.ipam.enableIPv6 }}
enableStatefulSet: {{ .Values.ipam.enableStatefulSet }}
enableKubevirtStaticIP: {{ .Values.ipam.enableKubevirtStaticIP }}
enableCleanOutdatedEndpoint: {{ .Values.ipam.enableCleanOutdatedEndpoint }}
enableSpiderSubnet: {{ $subnet.enable }}
enableAutoPoolForApplication: {{ $auto }}
enableIPConflictDetection: {{ .Values.ipam.enableIPConflictDetection }}
enableGatewayDetection: {{ .Values.ipam.enableGatewayDetection }}
quarantineMaxPercent: {{ int64 $quarantine }}
annotationPolicy: {{ .Values.ipam.annotationPolicy | default "Warn" }}
enableValidatingResourcesDeletedWebhook: {{ .Values.spiderpoolController.enableValidatingResourcesDeletedWebhook }}
clusterSubnetDefaultFlexibleIPNumber: {{ int64 $redundant }}
clusterSubnetAutoPoolDefaultRedundantIPNumber: {{ int64 $redundant }}
autoPoolMaxAddresses: {{ int64 $subnet.autoPool.maxAddresses }}
workloadKinds:
  {{- $subnet.autoPool.workloadKinds | default list | toYaml | nindent 2 }}
tuneSysctlConfig: {{ .Values.spiderpoolAgent.tuneSysctlConfig }}
{{- end -}}
