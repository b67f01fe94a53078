// What policies.py builds: nothing of its own.
module kube-router

go 1.26.2

require github.com/cloudnativelabs/kube-router/v2 v2.10.0

// A release, instead of the commit after it.
replace github.com/vishvananda/netlink => github.com/vishvananda/netlink v1.3.1
