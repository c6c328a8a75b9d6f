{{- define "maa.name" -}}
{{- .Release.Name | trunc 52 | trimSuffix "-" -}}-maa-assess
{{- end }}

{{- define "maa.selector" -}}
app.kubernetes.io/name: maa-assess
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "maa.metadata" -}}
name: {{ include "maa.name" . }}
labels:
  {{- include "maa.selector" . | nindent 2 }}
  app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
  app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}
