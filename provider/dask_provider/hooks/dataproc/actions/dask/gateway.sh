# The dashboard behind Dataproc's Component Gateway, which is a Knox on the first master: …/gateway/default/dask/status.

readonly KNOX=/usr/lib/knox
readonly TOPOLOGY=/etc/knox/conf/topologies/default.xml

# A dashboard that cannot be reached is no reason to fail: the cluster computes without.
publish_dashboard() {
    local before=$changed owner
    if [[ ! -d $KNOX || ! -e $TOPOLOGY ]]; then
        say "no Component Gateway on this node: the dashboard is at $url alone"
        return
    fi
    changed=false
    owner=$(stat --format %U:%G "$TOPOLOGY")
    # Pages name what they need relative to themselves: paths are all that is rewritten, and where "/" leads to.
    write_route DASK dask <<'XML'
    <route path="/dask">
      <rewrite apply="DASK/dask/in/start" to="request.url"/>
      <rewrite apply="DASK/dask/out/headers" to="response.headers"/>
    </route>
    <route path="/dask/**">
      <rewrite apply="DASK/dask/in/page" to="request.url"/>
      <rewrite apply="DASK/dask/out/headers" to="response.headers"/>
    </route>
    <route path="/dask/**?**">
      <rewrite apply="DASK/dask/in/query" to="request.url"/>
      <rewrite apply="DASK/dask/out/headers" to="response.headers"/>
    </route>
XML
    write_rules dask <<'XML'
  <rule dir="IN" name="DASK/dask/in/start" pattern="*://*:*/**/dask">
    <rewrite template="{$serviceUrl[DASK]}/"/>
  </rule>
  <rule dir="IN" name="DASK/dask/in/page" pattern="*://*:*/**/dask/{**}">
    <rewrite template="{$serviceUrl[DASK]}/{**}"/>
  </rule>
  <rule dir="IN" name="DASK/dask/in/query" pattern="*://*:*/**/dask/{**}?{**}">
    <rewrite template="{$serviceUrl[DASK]}/{**}?{**}"/>
  </rule>
  <rule dir="OUT" name="DASK/dask/out/location" pattern="/{**}">
    <rewrite template="{$frontend[path]}/dask/{**}"/>
  </rule>
  <filter name="DASK/dask/out/headers">
    <content type="application/x-http-headers"><apply path="Location" rule="DASK/dask/out/location"/></content>
  </filter>
XML
    # Each page draws what comes by a web socket; for Knox that is a service of its own.
    write_route DASKWS daskws <<'XML'
    <route path="/dask/**/ws"><rewrite apply="DASKWS/daskws/in" to="request.url"/></route>
XML
    write_rules daskws <<'XML'
  <rule dir="IN" name="DASKWS/daskws/in" pattern="*://*:*/**/dask/{**}/ws">
    <rewrite template="{$serviceUrl[DASKWS]}/{**}/ws"/>
  </rule>
XML
    enter_topology
    chown -R "$owner" "$TOPOLOGY" "$KNOX/data/services/dask" "$KNOX/data/services/daskws"
    if [[ $changed == true ]] && ! systemctl restart knox; then
        say "WARNING: knox cannot be restarted: the dashboard is at $url alone"
    else
        say "the Component Gateway has the dashboard at /gateway/default/dask/status"
    fi
    changed=$before
}

# write_route ROLE NAME: standard input are its routes.
write_route() {
    put "$KNOX/data/services/$2/1.0.0/service.xml" <<XML
<?xml version="1.0" encoding="UTF-8"?>
<!-- written by $SELF -->
<service role="$1" name="$2" version="1.0.0">
  <policies>
    <policy role="webappsec"/>
    <policy role="authentication" name="Anonymous"/>
    <policy role="rewrite"/>
    <policy role="authorization"/>
  </policies>
  <routes>
$(cat)
  </routes>
</service>
XML
}

# write_rules NAME: standard input are its rules.
write_rules() {
    put "$KNOX/data/services/$1/1.0.0/rewrite.xml" <<XML
<?xml version="1.0" encoding="UTF-8"?>
<!-- written by $SELF -->
<rules>
$(cat)
</rules>
XML
}

# Both services, once: those of an earlier run are replaced.
enter_topology() {
    local entry
    entry="<service><role>DASK</role><url>http://localhost:$dashboard_port</url></service>"
    entry+="<service><role>DASKWS</role><url>ws://localhost:$dashboard_port</url></service>"
    put "$TOPOLOGY" < <(sed -e '/<!-- dask.sh -->/d' -e "s|</topology>|<!-- dask.sh -->$entry\n&|" "$TOPOLOGY")
}
