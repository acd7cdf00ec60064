# One static binary, nothing else: no shell, no package, not root.
FROM golang:1.26 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
ARG REVISION=dev
RUN CGO_ENABLED=0 go build -trimpath -ldflags "-s -w -X main.version=${REVISION}" -o /godwit ./cmd/godwit

FROM scratch
ARG REVISION=dev
LABEL org.opencontainers.image.title="godwit" \
      org.opencontainers.image.description="A fleet of thin websocket nodes on Redis whose sessions outlive any node" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /godwit /godwit
USER 65532:65532
EXPOSE 8080 8081
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s CMD ["/godwit", "probe", "live"]
ENTRYPOINT ["/godwit"]
CMD ["serve"]
