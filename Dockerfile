# The engine with what a group needs; built by compose.yaml.
FROM python:3.12-slim
# Where torch comes from: builds for CPUs; compose.gpu.yaml takes those for CUDA.
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
RUN useradd --uid 1000 --create-home csp && install --directory --owner=1000 /state /libraries
WORKDIR /csp
COPY . .
RUN pip install --no-cache-dir --extra-index-url "${TORCH_INDEX}" -c constraints.txt '.[cluster]'
USER 1000
