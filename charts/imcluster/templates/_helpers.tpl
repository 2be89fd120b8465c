{{/* The name of the operator's objects. */}}
{{- define "imcluster.fullname" -}}
{{- printf "%s-operator" .Release.Name | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "imcluster.selectorLabels" -}}
app.kubernetes.io/name: imcluster
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: operator
{{- end }}

{{- define "imcluster.labels" -}}
{{ include "imcluster.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "imcluster.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "imcluster.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- required "serviceAccount.name is required when serviceAccount.create is false" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{- define "imcluster.image" -}}
{{- if .Values.image.digest }}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest }}
{{- else }}
{{- printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) }}
{{- end }}
{{- end }}

{{/*
Rules of the operator, from files/role.yaml, which is generated from the comments beside the code that needs
them. Takes the context and a kind: "ClusterRole" is what IMClusters need, "Role" what electing a leader needs.
*/}}
{{- define "imcluster.rules" -}}
{{- $kind := .kind }}
{{- range $document := regexSplit "(?m)^---$" (.context.Files.Get "files/role.yaml") -1 }}
{{- $role := fromYaml $document }}
{{- if eq (get $role "kind" | default "") $kind }}
{{- toYaml $role.rules }}
{{- end }}
{{- end }}
{{- end }}
