"""What stands between visitors and a host: colos, resolvers and the connections of the tunnels."""
