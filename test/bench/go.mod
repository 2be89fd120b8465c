module github.com/imcluster/imcluster/test/bench

go 1.26.0

require github.com/imcluster/imcluster v0.0.0

replace github.com/imcluster/imcluster => ../..
