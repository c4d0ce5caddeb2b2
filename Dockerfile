# The engine with what a cluster needs; built by compose.yaml.
FROM python:3.12-slim
WORKDIR /csp
COPY . .
RUN pip install --no-cache-dir --extra-index-url https://download.pytorch.org/whl/cpu -c constraints.txt '.[cluster]'
