#!/bin/sh
# What Hadoop's own `yarn` is to its clients and to this server: the few commands that are used here.
: "${HADOOP_CONF_DIR:?}" "${YARN_JARS:?a folder of jars}"
command=$1
[ $# -gt 0 ] && shift
server=org.apache.hadoop.yarn.server
client=org.apache.hadoop.yarn.client.cli
memory=128m
case "$command" in
  classpath) # skein asks for `classpath --glob`: every jar by its name
    printf '%s' "$HADOOP_CONF_DIR"
    for jar in "$YARN_JARS"/*.jar; do printf ':%s' "$jar"; done
    exit 0 ;;
  resourcemanager) main=$server.resourcemanager.ResourceManager memory=256m ;;
  nodemanager) main=$server.nodemanager.NodeManager memory=256m ;;
  logs) main=$client.LogsCLI ;;
  application) main=$client.ApplicationCLI && set -- application "$@" ;;
  node) main=$client.NodeCLI ;;
  *) echo "yarn: unknown command '$command'; known: classpath, logs, application, node" >&2 && exit 1 ;;
esac
# Hadoop 3.3 reaches into java.lang, which Java 17 shuts.
exec "${JAVA_HOME:+$JAVA_HOME/bin/}java" "-Xmx$memory" -XX:+UseSerialGC -XX:TieredStopAtLevel=1 \
  --add-opens=java.base/java.lang=ALL-UNNAMED -cp "$HADOOP_CONF_DIR:$YARN_JARS/*" "$main" "$@"
